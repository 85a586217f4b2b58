"""The data check: what is wrong with the images of a source, found once, before anything is learnt from them."""
