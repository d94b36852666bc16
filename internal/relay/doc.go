// Package relay carries ssh's bytes to a server behind a door that opens in a moment:
// it dials, relays, and hands a connection over to ssh. It knows nothing of how doors
// are opened. Commands may import it; it imports nothing of ours.
package relay
