// Package web is a gate's HTTP: who a request is from, what it may reach, the API and the
// pages. It decides nothing about doors: package gate does, and what stands in an answer or
// on a page is a type of package gate/api. The daemon and the function run it.
//
// Every request goes the same way: the limits of a connection (serve.go), the Host header
// and the method (handler.go), the client's address (clientaddr.go), who it is
// (identity.go), what the table of routes says of the roles (routes.go), the handler.
package web
