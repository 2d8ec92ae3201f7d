"""The report: one page, and its charts as files, on what a warehouse's marts hold."""
