package outbound

import (
	"io"
	"log"
)

// quiet is where test servers complain of clients that refuse them.
func quiet() *log.Logger { return log.New(io.Discard, "", 0) }
