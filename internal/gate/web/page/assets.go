package page

import (
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
)

var (
	//go:embed style.css
	style []byte
	//go:embed gate.js
	script []byte
)

// Asset is a file that pages load. Its path has its content's hash, so it may be kept for good.
type Asset struct {
	Path string
	Type string // of media
	Data []byte
}

// Assets are all that the pages load, from the gate alone.
func Assets() []Asset { return []Asset{styleAsset, scriptAsset} }

var (
	styleAsset  = asset("css", "text/css; charset=utf-8", style)
	scriptAsset = asset("js", "text/javascript; charset=utf-8", script)
)

func asset(ext, kind string, data []byte) Asset {
	sum := sha256.Sum256(data)
	return Asset{Path: "/assets/" + hex.EncodeToString(sum[:8]) + "." + ext, Type: kind, Data: data}
}
