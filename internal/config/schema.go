package config

import (
	"encoding/json"
	"fmt"
)

// object is a JSON object.
type object = map[string]any

// Schema returns the JSON Schema (draft 2020-12) of the file, for editors. It
// cannot say everything: what is between keys, only Parse checks.
func Schema() []byte {
	root := table(Default()).schema()
	root["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	root["title"] = "sekisho.yaml"
	root["description"] = "The configuration of sekisho, the checkpoint in front of SSH."
	root["required"] = []string{"version"}
	out, err := json.MarshalIndent(root, "", "  ")
	if err != nil {
		panic(fmt.Sprintf("config: schema: %v", err)) // plain maps: cannot fail
	}
	return append(out, '\n')
}

func (g group) schema() object {
	properties := object{}
	for _, k := range g {
		s := k.value.schema()
		s["description"] = k.doc
		properties[k.name] = s
	}
	// A key with nothing after it, its own keys commented out, is as if left out.
	return object{"type": []string{"object", "null"}, "additionalProperties": false, "properties": properties}
}
