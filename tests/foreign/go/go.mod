module isthmus.dev/errand

go 1.24
