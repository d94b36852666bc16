package ec2test_test

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
)

// wellFormedXML tells what is wrong with an answer.
func wellFormedXML(b []byte) error {
	d := xml.NewDecoder(bytes.NewReader(b))
	for {
		if _, err := d.Token(); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
	}
}
