"""Verifies the DKIM signature of the message on standard input: verify.py
SELECTOR DOMAIN PUBLIC-KEY. Says what it found, and fails if that is no good one."""
import sys

import dkim

selector, domain, key = sys.argv[1:]
name = "%s._domainkey.%s." % (selector, domain)


def txt(asked, timeout=5):
    return b"v=DKIM1; k=rsa; p=" + key.encode() if asked.decode() == name else None


message = sys.stdin.buffer.read()
if not dkim.verify(message, dnsfunc=txt):
    sys.exit("no good signature:\n" + message.decode())
print("good")
