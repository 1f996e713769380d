package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// Every stored value ends in, or holds, a CRC-32C. That of a sketch is its own;
// all others also cover the names of table and key, so that a value which turns
// up under another key is found out too:
//
//	+---------------------------+-----------------------------------+
//	| payload                   | CRC-32C of table . key . payload, |
//	|                           | u32 little endian                 |
//	+---------------------------+-----------------------------------+
const sealSize = 4

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var (
	errChecksum = errors.New("wrong checksum")
	errMissing  = errors.New("the record is missing")
	errNoTable  = errors.New("the table is missing")
	errOrder    = errors.New("keys out of order")
)

// checksum covers what the seal of a payload covers.
func checksum(table string, key, payload []byte) uint32 {
	sum := crc32.Update(0, castagnoli, []byte(table))
	sum = crc32.Update(sum, castagnoli, key)
	return crc32.Update(sum, castagnoli, payload)
}

// seal appends the checksum to a payload.
func seal(table string, key, payload []byte) []byte {
	return binary.LittleEndian.AppendUint32(payload, checksum(table, key, payload))
}

// unseal returns the payload of a sealed value, which it shares memory with.
func unseal(table string, key, value []byte) ([]byte, error) {
	if value == nil {
		return nil, errMissing
	}
	if len(value) < sealSize {
		return nil, errors.New("shorter than its checksum")
	}
	payload := value[:len(value)-sealSize]
	if binary.LittleEndian.Uint32(value[len(payload):]) != checksum(table, key, payload) {
		return nil, errChecksum
	}
	return payload, nil
}

// reader decodes a payload from the front. After the first error it returns
// zeros. It accepts only what the append functions write, the shortest form.
type reader struct {
	b   []byte
	err error
}

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf(format, args...)
	}
	r.b = nil
}

func (r *reader) uvarint(what string) uint64 {
	v, n := binary.Uvarint(r.b)
	switch {
	case n <= 0:
		r.fail("%s: cut off or too large", what)
		return 0
	case n > 1 && r.b[n-1] == 0:
		r.fail("%s: not in its shortest form", what)
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) varint(what string) int64 {
	v := r.uvarint(what)
	return int64(v>>1) ^ -int64(v&1)
}

// number reads a uvarint that is at most limit.
func (r *reader) number(what string, limit uint64) uint64 {
	v := r.uvarint(what)
	if v > limit {
		r.fail("%s: %d is over the limit of %d", what, v, limit)
		return 0
	}
	return v
}

// bytes reads a length and as many bytes, at most limit. They are not copied.
func (r *reader) bytes(what string, limit int) []byte {
	n := int(r.number(what, uint64(limit)))
	return r.take(what, n)
}

// take reads n bytes.
func (r *reader) take(what string, n int) []byte {
	if n > len(r.b) {
		r.fail("%s: cut off", what)
		return nil
	}
	b := r.b[:n:n]
	r.b = r.b[n:]
	return b
}

// done returns the first error, or one when bytes are left.
func (r *reader) done() error {
	if r.err == nil && len(r.b) > 0 {
		r.fail("%d bytes too many", len(r.b))
	}
	return r.err
}

func appendBytes[B ~string | ~[]byte](b []byte, s B) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}
