"""Images to embeddings: sessions, the pool of workers, and the cache."""
