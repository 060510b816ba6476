module killswitch.dev/tests/hands

go 1.26.0
