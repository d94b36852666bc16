// Package ownaddr finds out which of our addresses a target's side sees: that of the route to
// it, or what services on the internet say. An address too wide or not ours would open
// somebody else's way in, so it rather has no answer. Flows and commands may import it.
package ownaddr
