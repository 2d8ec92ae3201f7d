"""The subcommands of `pipeline`, a module each."""
