"""The policies that come with sitio, one a file."""
