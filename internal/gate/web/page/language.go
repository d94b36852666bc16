package page

import "golang.org/x/text/language"

// Language is one that the pages speak.
type Language string

// The languages.
const (
	English  Language = "en"
	Japanese Language = "ja"
)

// Choose is the language of a reader: what they have switched to, else what their browser
// asks for, else English.
func Choose(accept, switched string) Language {
	switch Language(switched) {
	case English, Japanese:
		return Language(switched)
	}
	if len(accept) > 256 {
		return English
	}
	tags, _, err := language.ParseAcceptLanguage(accept)
	if err != nil {
		return English
	}
	for _, t := range tags {
		switch base, _ := t.Base(); Language(base.String()) {
		case English:
			return English
		case Japanese:
			return Japanese
		}
	}
	return English
}
