//go:build race

package access

// raced: everything takes some times as long, so that less of the same is looked at.
const raced = true
