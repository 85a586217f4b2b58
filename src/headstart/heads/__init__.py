"""What maps embeddings to class scores."""
