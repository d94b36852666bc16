package page

import (
	"fmt"
	"math"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"

	"sekisho/internal/gate/api"
)

// Each language has all the words, and Japanese does not fall back to English ones.
func TestWords(t *testing.T) {
	same := map[string]bool{"AlsoV4": true, "AlsoV6": true} // IPv4 is IPv4
	en, ja := reflect.ValueOf(*english()), reflect.ValueOf(*japanese())
	for i := range en.NumField() {
		name := en.Type().Field(i).Name
		for _, v := range []reflect.Value{en.Field(i), ja.Field(i)} {
			if v.IsZero() {
				t.Errorf("%s is not there", name)
			}
		}
		if en.Field(i).Kind() != reflect.String || same[name] || name == "Lang" || name == "Other" || name == "OtherLang" {
			continue
		}
		japanese := false
		for _, r := range ja.Field(i).String() {
			japanese = japanese || unicode.In(r, unicode.Hiragana, unicode.Katakana, unicode.Han)
		}
		if !japanese {
			t.Errorf("%s is %q in Japanese", name, ja.Field(i))
		}
	}
}

func TestEveryCodeHasJapanese(t *testing.T) {
	general := japanese().ErrorOf(api.Internal)
	for _, c := range []api.Code{api.BadRequest, api.NoIdentity, api.BadSignature, api.Clock, api.Replayed, api.Unknown, api.Expired, api.Disabled, api.Forbidden, api.NotAllowed, api.CrossOrigin, api.NotFound, api.BadMethod, api.Declared, api.Conflict, api.TooLarge, api.TooMany, api.Unreachable, api.Busy} {
		if got := japanese().ErrorOf(c); got == "" || got == general {
			t.Errorf("%s has no words of its own", c)
		}
	}
}

func TestDuration(t *testing.T) {
	for _, tt := range []struct {
		name   string
		d      time.Duration
		en, ja string
	}{
		{"nothing", 0, "0 s", "0 秒"},
		{"less than nothing", -time.Hour, "0 s", "0 秒"},
		{"seconds", 59 * time.Second, "59 s", "59 秒"},
		{"one unit", time.Hour, "1 h", "1 時間"},
		{"two units", 2*time.Hour + 3*time.Minute + 4*time.Second, "2 h 3 min", "2 時間 3 分"},
		{"nothing between", 2*time.Hour + 4*time.Second, "2 h", "2 時間"},
		{"days", 50*time.Hour + time.Minute, "2 d 2 h", "2 日 2 時間"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := english().Duration(tt.d); got != tt.en {
				t.Errorf("got %q, want %q", got, tt.en)
			}
			if got := japanese().Duration(tt.d); got != tt.ja {
				t.Errorf("got %q, want %q", got, tt.ja)
			}
		})
	}
}

func TestChoose(t *testing.T) {
	for _, tt := range []struct {
		name, accept, switched string
		want                   Language
	}{
		{"nothing", "", "", English},
		{"Japanese", "ja,en-US;q=0.7,en;q=0.3", "", Japanese},
		{"Japanese of Japan", "ja-JP", "", Japanese},
		{"English before Japanese", "en-GB,ja;q=0.9", "", English},
		{"a third, then Japanese", "fr,ja;q=0.5,en;q=0.4", "", Japanese},
		{"a third", "fr", "", English},
		{"by weight, not by place", "en;q=0.1,ja;q=0.9", "", Japanese},
		{"switched", "ja", "en", English},
		{"switched to what there is not", "ja", "xx", Japanese},
		{"garbage", ";;;=", "", English},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := Choose(tt.accept, tt.switched); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

// Each sentence is found by its own pattern and by none that stands before it, and its
// Japanese has all that the English has.
func TestSentences(t *testing.T) {
	f := Frame{Words: japanese()}
	for i, s := range sentences {
		n := strings.Count(s[0], "{}")
		english := s[0]
		for j := range n {
			english = strings.Replace(english, "{}", fmt.Sprintf("Q%d", j+1), 1)
		}
		got, lang := f.say(english)
		if lang != "ja" {
			t.Errorf("%q is not known", english)
		}
		for j := range n {
			if !strings.Contains(s[1], fmt.Sprintf("{%d}", j+1)) && s[0] != "ask for it: it opens once they say yes at {}" {
				t.Errorf("%q lacks %d", s[1], j+1)
			}
			if !strings.Contains(got, fmt.Sprintf("Q%d", j+1)) {
				t.Errorf("%d: %q is %q", i, english, got)
			}
		}
		want := s[1]
		for j := range n {
			want = strings.ReplaceAll(want, fmt.Sprintf("{%d}", j+1), fmt.Sprintf("Q%d", j+1))
		}
		if got != want {
			t.Errorf("%q is %q, want %q", english, got, want)
		}
	}
	if got, lang := f.say("something new; say why: --reason TEXT"); lang != "en" || got != "something new; say why: --reason TEXT" {
		t.Errorf("got %q in %s", got, lang)
	}
	if got, lang := f.say("in an emergency, break the glass; say why: --reason TEXT"); lang != "ja" || got != "緊急時は、承認なしで開けられます。理由を記入してください" {
		t.Errorf("got %q in %s", got, lang)
	}
}

// Text can be read, in the light and in the dark (WCAG 2.2, 1.4.3: 4.5 to 1).
func TestContrast(t *testing.T) {
	css := string(style)
	light, dark, ok := strings.Cut(css, "@media (prefers-color-scheme: dark)")
	if !ok {
		t.Fatal("there is no dark")
	}
	colour := regexp.MustCompile(`--([a-z-]+): #([0-9a-f]{6});`)
	read := func(s string) map[string]float64 {
		all := map[string]float64{}
		for _, m := range colour.FindAllStringSubmatch(s, -1) {
			n, err := strconv.ParseUint(m[2], 16, 32)
			if err != nil {
				t.Fatal(err)
			}
			channel := func(v uint64) float64 {
				c := float64(v&0xff) / 255
				if c <= 0.04045 {
					return c / 12.92
				}
				return math.Pow((c+0.055)/1.055, 2.4)
			}
			all[m[1]] = 0.2126*channel(n>>16) + 0.7152*channel(n>>8) + 0.0722*channel(n)
		}
		return all
	}
	for name, c := range map[string]map[string]float64{"light": read(light), "dark": read(dark)} {
		for _, pair := range [][2]string{
			{"text", "ground"}, {"text", "card"}, {"muted", "ground"}, {"muted", "card"}, {"act", "ground"}, {"act", "card"}, {"on-act", "act"},
			{"open", "open-ground"}, {"text", "open-ground"}, {"warn", "warn-ground"}, {"text", "warn-ground"}, {"stop", "card"}, {"on-stop", "stop"},
		} {
			a, aok := c[pair[0]]
			b, bok := c[pair[1]]
			if !aok || !bok {
				t.Fatalf("%s: %v is not there", name, pair)
			}
			if ratio := (max(a, b) + 0.05) / (min(a, b) + 0.05); ratio < 4.5 {
				t.Errorf("%s: %s on %s is %.1f to 1", name, pair[0], pair[1], ratio)
			}
		}
	}
}
