"""The page of the pipeline, its HTTP API, and the central scheduler behind them."""
