"""Rows of images as a folder of Parquet shards that grows, and is resumed: see `folder` for its form."""
