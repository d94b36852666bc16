//go:build !race

package access

const raced = false
