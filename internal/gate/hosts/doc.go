// Package hosts tests a gate and its hosts together: real ones, as processes of their own,
// with packets in network namespaces. It holds nothing else.
package hosts
