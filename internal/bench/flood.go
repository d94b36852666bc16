package main

import (
	"context"
)

func (b *bench) flood(ctx context.Context) error { return nil }
