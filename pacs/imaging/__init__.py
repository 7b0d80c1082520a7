"""Transfer syntaxes, frames and pixels."""
