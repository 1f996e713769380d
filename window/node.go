package window

import (
	"unicode"
	"unicode/utf8"
)

// MaxNodeBytes is the longest node id.
const MaxNodeBytes = 256

// AllNodes is the name under which answers show all the nodes asked for
// together. It is no node id.
const AllNodes = "*"

// CheckNode refuses what is no node id: 1 to 256 bytes of printable UTF-8, so
// no control characters, NUL or marks that change the direction of text. Ids
// are opaque keys and never part of a file name: "/" and ".." are allowed. "*"
// alone is not, it names the fleet in answers.
func CheckNode(id string) error {
	switch {
	case id == "":
		return badInput("node", ReasonEmpty, "a node needs an id")
	case len(id) > MaxNodeBytes:
		return tooLong("node", ReasonTooLong, len(id), MaxNodeBytes, "bytes")
	case !utf8.ValidString(id):
		return badInput("node", ReasonBadNode, "not UTF-8")
	case id == AllNodes:
		return badInput("node", ReasonBadNode, `"*" stands for all nodes`)
	}
	for _, r := range id {
		if !unicode.IsPrint(r) {
			return badInput("node", ReasonBadNode, "%U is not printable", r)
		}
	}
	return nil
}
