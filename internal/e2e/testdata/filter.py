"""A milter: filter.py PORT. What it does is said in the Subject of a message."""
import sys

import Milter


class Filter(Milter.Base):
    @Milter.noreply
    def connect(self, host, family, address):
        self.address = address[0]
        return Milter.CONTINUE

    def envfrom(self, sender, *params):
        self.sender, self.subject, self.size, self.old = sender, "", 0, 0
        if "spammer" in sender:
            self.setreply("554", "5.7.1", "No mail from spammers, 100%% sure")  # as libmilter wants it
            return Milter.REJECT
        return Milter.CONTINUE

    def envrcpt(self, rcpt, *params):
        return Milter.TEMPFAIL if "greylisted" in rcpt else Milter.CONTINUE

    def header(self, name, value):
        if name.lower() == "subject":
            self.subject = value
        if name.lower() == "x-old":
            self.old += 1
        return Milter.CONTINUE

    def body(self, chunk):
        self.size += len(chunk)
        return Milter.REJECT if b"EICAR" in chunk else Milter.CONTINUE

    def eom(self):
        if "discard" in self.subject:
            return Milter.DISCARD
        self.addheader("X-Checked", "%s from %s,\n\tid %s, %d bytes" % (self.sender, self.address, self.getsymval("i"), self.size))
        for i in range(self.old, 0, -1):
            self.chgheader("X-Old", i, "")
        if "archive" in self.subject:
            self.addrcpt("<archive@example.test>")
            self.addrcpt("<spy@elsewhere.example>")
        if "quarantine" in self.subject:
            self.quarantine("suspicious: " + self.subject)
        return Milter.ACCEPT


Milter.factory = Filter
Milter.set_flags(Milter.ADDHDRS | Milter.CHGHDRS | Milter.ADDRCPT | Milter.QUARANTINE)
Milter.runmilter("filter", "inet:%s@127.0.0.1" % sys.argv[1], 60)
