//go:build !race

package hosts

const raced = false
