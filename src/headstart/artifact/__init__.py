"""The model file: what it holds, how it is written, checked and used."""
