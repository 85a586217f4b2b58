"""The export to PyTorch: a model as an ExportedProgram, and its weights as safetensors."""
