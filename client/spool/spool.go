// Package spool keeps what a client has not sent yet in a file, so that it
// survives the process. Import it for its effect, and name a directory:
//
//	import _ "github.com/distributed-median-tracker/dmt/client/spool"
//
//	rec := c.Recorder("web-17", client.RecorderOptions{Spool: "/var/lib/app/dmt"})
//
// It is a package of its own so that programs without a spool do not link the
// database, bbolt, that it is made of.
//
// # What is promised
//
// What a Commit has put into the file is there after kill -9 or a power cut: a
// commit is one fsynced transaction. A file belongs to one client at a time;
// whoever opens it besides gets ErrLocked. Every record has a checksum.
//
// A damaged file never stops a program and is never believed: all records that
// read well up to the first damaged page are kept, every single one that does
// not is left out, and both losses are reported to the client's logger and
// OnDrop. The damaged file is then kept beside the new one as spool.db.damaged,
// in place of any earlier one.
//
// # What is left to others
//
// What records mean, when they are written, and the caps on their size and age
// are the client's business. See DESIGN.md.
package spool

import (
	"errors"

	"github.com/distributed-median-tracker/dmt/client/internal/record"
)

// Names of files in the directory of a spool.
const (
	FileName    = "spool.db"
	DamagedName = "spool.db.damaged" // the last file that was found damaged
	newName     = "spool.db.new"     // while it is written
)

// ErrLocked says that another client, in this process or another, has the spool
// open. Give each process a directory of its own.
var ErrLocked = errors.New("spool: in use by another process or client; give each a directory of its own")

func init() {
	record.Register(func(dir string) (record.Store, record.Found, error) {
		f, found, err := open(dir)
		if err != nil {
			return nil, record.Found{}, err // a nil *file is no nil Store
		}
		return f, found, nil
	})
}
