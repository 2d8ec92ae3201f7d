"""The report on a warehouse's marts: one page, and its charts as files."""
