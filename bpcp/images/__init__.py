"""An image list from a folder or a bucket: what microscopes write, as LoadData wants it."""
