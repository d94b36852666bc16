//go:build race

package hosts

// raced: everything takes some times as long, and as much memory.
const raced = true
