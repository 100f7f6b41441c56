module isthmus.dev/tests/istiod

go 1.22
