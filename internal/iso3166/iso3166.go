// Package iso3166 holds the codes and names of countries. A value package:
// anything may import it.
package iso3166

import (
	"cmp"
	"fmt"
	"iter"
	"slices"
	"strings"
)

// Code is an ISO 3166-1 alpha-2 code, in capitals: JP. In a registry's file it may
// also be one that is no country: see Parse.
type Code [2]byte

func (c Code) String() string { return string(c[:]) }

// MarshalText is String, for JSON.
func (c Code) MarshalText() ([]byte, error) { return c[:], nil }

// Name is the country's short English name; for a code that the registries use
// and that is no country what they mean by it; "" for any other.
func (c Code) Name() string {
	for code, name := range all(countries) {
		if code == c {
			return name
		}
	}
	for code, name := range all(notCountries) {
		if code == c {
			return name
		}
	}
	return ""
}

// UnknownError is a code that names no country.
type UnknownError struct {
	Given string
	Hint  string // what to do now
}

func (e *UnknownError) Error() string {
	if len(e.Given) > 40 {
		return "that is not the code of a country"
	}
	return fmt.Sprintf("%q is not the code of a country", e.Given)
}

// Parse reads a country's code; small letters will do. What is not the code of
// a country is an *UnknownError with a hint: EU, AP, UK and ZZ too, which look like
// one in the registries' files or in daily life.
func Parse(s string) (Code, error) {
	up := strings.ToUpper(strings.TrimSpace(s))
	hint := ""
	switch up {
	case "UK":
		hint = "the United Kingdom's code is GB"
	case "EU":
		hint = "the registries write EU for addresses used all over Europe; name the countries, for example DE, FR, NL"
	case "AP":
		hint = "the registries write AP for addresses used all over Asia and the Pacific; name the countries, for example JP, KR, SG"
	case "ZZ":
		hint = "the registries write ZZ for addresses of no known country; nobody can be let in by that"
	default:
		if len(up) == 2 {
			for code := range all(countries) {
				if code == Code([]byte(up)) {
					return code, nil
				}
			}
		}
		hint = suggest(up)
	}
	return Code{}, &UnknownError{s, hint}
}

// suggest names the countries that s may have meant: by their names, or by codes
// that differ from it in one letter.
func suggest(s string) string {
	var near []string
	add := func(code Code, name string) { near = append(near, fmt.Sprintf("%s (%s)", code, name)) }
	if len(s) >= 3 && len(s) <= 40 {
		type candidate struct {
			code     Code
			name     string
			distance int
		}
		var candidates []candidate
		for code, name := range all(countries) {
			up := strings.ToUpper(name)
			d := distance(s, up)
			if strings.Contains(up, s) {
				d = 0
			}
			if d <= max(1, len(s)/4) || len(s) == 3 && code[0] == s[0] && (code[1] == s[1] || code[1] == s[2]) {
				candidates = append(candidates, candidate{code, name, d})
			}
		}
		slices.SortStableFunc(candidates, func(a, b candidate) int { return cmp.Compare(a.distance, b.distance) })
		for _, c := range candidates {
			add(c.code, c.name)
		}
	} else if len(s) == 2 {
		swapped := string([]byte{s[1], s[0]})
		for _, same := range []func(Code) bool{
			func(c Code) bool { return c.String() == swapped },
			func(c Code) bool { return c[0] == s[0] && c[1] != s[1] },
			func(c Code) bool { return c[0] != s[0] && c[1] == s[1] },
		} {
			for code, name := range all(countries) {
				if same(code) {
					add(code, name)
				}
			}
		}
	}
	if len(near) == 0 {
		return "a code is two letters (ISO 3166-1), for example JP"
	}
	return "did you mean " + strings.Join(near[:min(len(near), 4)], ", ") + "?"
}

// distance is Levenshtein's.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(diagonal+cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// all walks over a list below.
func all(list string) iter.Seq2[Code, string] {
	return func(yield func(Code, string) bool) {
		for line := range strings.Lines(list) {
			if !yield(Code{line[0], line[1]}, strings.TrimSpace(line[3:])) {
				return
			}
		}
	}
}

// notCountries are the codes that stand in files of addresses and are no country.
const notCountries = `AN Netherlands Antilles (until 2010)
AP Asia and the Pacific, no single country
EU Europe, no single country
ZZ no known country
`

// countries are the codes of ISO 3166-1, and XK, which it leaves to its users and
// everybody uses for Kosovo.
const countries = `AD Andorra
AE United Arab Emirates
AF Afghanistan
AG Antigua and Barbuda
AI Anguilla
AL Albania
AM Armenia
AO Angola
AQ Antarctica
AR Argentina
AS American Samoa
AT Austria
AU Australia
AW Aruba
AX Aland Islands
AZ Azerbaijan
BA Bosnia and Herzegovina
BB Barbados
BD Bangladesh
BE Belgium
BF Burkina Faso
BG Bulgaria
BH Bahrain
BI Burundi
BJ Benin
BL Saint Barthelemy
BM Bermuda
BN Brunei
BO Bolivia
BQ Bonaire, Sint Eustatius and Saba
BR Brazil
BS Bahamas
BT Bhutan
BV Bouvet Island
BW Botswana
BY Belarus
BZ Belize
CA Canada
CC Cocos (Keeling) Islands
CD Congo (Kinshasa)
CF Central African Republic
CG Congo (Brazzaville)
CH Switzerland
CI Ivory Coast
CK Cook Islands
CL Chile
CM Cameroon
CN China
CO Colombia
CR Costa Rica
CU Cuba
CV Cape Verde
CW Curacao
CX Christmas Island
CY Cyprus
CZ Czechia
DE Germany
DJ Djibouti
DK Denmark
DM Dominica
DO Dominican Republic
DZ Algeria
EC Ecuador
EE Estonia
EG Egypt
EH Western Sahara
ER Eritrea
ES Spain
ET Ethiopia
FI Finland
FJ Fiji
FK Falkland Islands
FM Micronesia
FO Faroe Islands
FR France
GA Gabon
GB United Kingdom
GD Grenada
GE Georgia
GF French Guiana
GG Guernsey
GH Ghana
GI Gibraltar
GL Greenland
GM Gambia
GN Guinea
GP Guadeloupe
GQ Equatorial Guinea
GR Greece
GS South Georgia and the South Sandwich Islands
GT Guatemala
GU Guam
GW Guinea-Bissau
GY Guyana
HK Hong Kong
HM Heard Island and McDonald Islands
HN Honduras
HR Croatia
HT Haiti
HU Hungary
ID Indonesia
IE Ireland
IL Israel
IM Isle of Man
IN India
IO British Indian Ocean Territory
IQ Iraq
IR Iran
IS Iceland
IT Italy
JE Jersey
JM Jamaica
JO Jordan
JP Japan
KE Kenya
KG Kyrgyzstan
KH Cambodia
KI Kiribati
KM Comoros
KN Saint Kitts and Nevis
KP North Korea
KR South Korea
KW Kuwait
KY Cayman Islands
KZ Kazakhstan
LA Laos
LB Lebanon
LC Saint Lucia
LI Liechtenstein
LK Sri Lanka
LR Liberia
LS Lesotho
LT Lithuania
LU Luxembourg
LV Latvia
LY Libya
MA Morocco
MC Monaco
MD Moldova
ME Montenegro
MF Saint Martin (French part)
MG Madagascar
MH Marshall Islands
MK North Macedonia
ML Mali
MM Myanmar
MN Mongolia
MO Macao
MP Northern Mariana Islands
MQ Martinique
MR Mauritania
MS Montserrat
MT Malta
MU Mauritius
MV Maldives
MW Malawi
MX Mexico
MY Malaysia
MZ Mozambique
NA Namibia
NC New Caledonia
NE Niger
NF Norfolk Island
NG Nigeria
NI Nicaragua
NL Netherlands
NO Norway
NP Nepal
NR Nauru
NU Niue
NZ New Zealand
OM Oman
PA Panama
PE Peru
PF French Polynesia
PG Papua New Guinea
PH Philippines
PK Pakistan
PL Poland
PM Saint Pierre and Miquelon
PN Pitcairn
PR Puerto Rico
PS Palestine
PT Portugal
PW Palau
PY Paraguay
QA Qatar
RE Reunion
RO Romania
RS Serbia
RU Russia
RW Rwanda
SA Saudi Arabia
SB Solomon Islands
SC Seychelles
SD Sudan
SE Sweden
SG Singapore
SH Saint Helena, Ascension and Tristan da Cunha
SI Slovenia
SJ Svalbard and Jan Mayen
SK Slovakia
SL Sierra Leone
SM San Marino
SN Senegal
SO Somalia
SR Suriname
SS South Sudan
ST Sao Tome and Principe
SV El Salvador
SX Sint Maarten (Dutch part)
SY Syria
SZ Eswatini
TC Turks and Caicos Islands
TD Chad
TF French Southern Territories
TG Togo
TH Thailand
TJ Tajikistan
TK Tokelau
TL Timor-Leste
TM Turkmenistan
TN Tunisia
TO Tonga
TR Turkey
TT Trinidad and Tobago
TV Tuvalu
TW Taiwan
TZ Tanzania
UA Ukraine
UG Uganda
UM United States Minor Outlying Islands
US United States
UY Uruguay
UZ Uzbekistan
VA Holy See
VC Saint Vincent and the Grenadines
VE Venezuela
VG Virgin Islands (British)
VI Virgin Islands (U.S.)
VN Vietnam
VU Vanuatu
WF Wallis and Futuna
WS Samoa
XK Kosovo
YE Yemen
YT Mayotte
ZA South Africa
ZM Zambia
ZW Zimbabwe
`
