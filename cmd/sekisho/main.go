// Command sekisho is the checkpoint in front of SSH.
package main

func main() {}
