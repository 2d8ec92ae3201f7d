"""The names of the tables that the pipeline keeps beside those of the datasets, in either warehouse."""

LEDGER = "load_ledger"
QUARANTINE = "load_quarantine"
