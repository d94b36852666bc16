// Command sekisho is the checkpoint in front of SSH: it reads what sshd says
// and bans who attacks it. Everything is in internal; see internal/cli.
package main

import (
	"os"

	"sekisho/internal/cli"
)

func main() { os.Exit(cli.Main(os.Args[1:])) }
