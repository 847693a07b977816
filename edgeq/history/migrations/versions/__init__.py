"""One module a version; what is done there is never changed afterwards."""
