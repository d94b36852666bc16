package ec2test

// Deaf is a server that does not listen.
func Deaf() *Server { return build(Options{}) }
