"""A mail server with STARTTLS and AUTH that keeps each mail in a folder.

Arguments: folder, certificate, key, and options: `no-starttls`, `implicit` (TLS from the first byte), `no-auth`,
`no-plain` (AUTH LOGIN alone), `refuse=ADDRESS`, `busy=COUNT` (so many mails are answered 451 first). The first line
printed is the port.
"""

import asyncio
import json
import pathlib
import ssl
import sys

from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword

folder, certificate, key, *options = sys.argv[1:]
folder = pathlib.Path(folder)
refused = [option.partition("=")[2] for option in options if option.startswith("refuse=")]
implicit = "implicit" in options
busy = sum(int(option.partition("=")[2]) for option in options if option.startswith("busy="))


def is_within_tls(session):
    return implicit or session.ssl is not None


def authenticate(server, session, envelope, mechanism, data):
    fits = isinstance(data, LoginPassword) and data == LoginPassword(b"lookout", "päss word".encode())
    (folder / "logins").open("a").write(f"{mechanism} {is_within_tls(session)} {fits}\n")
    return AuthResult(success=fits, handled=fits)


class Handler:
    count = 0

    async def handle_RCPT(self, server, session, envelope, address, rcpt_options):
        if address in refused:
            return "550 5.1.1 no such user"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        global busy
        if busy > 0:
            busy -= 1
            return "451 4.3.0 try again later"
        Handler.count += 1
        mail = {
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "tls": is_within_tls(session),
            "user": session.authenticated,
            "raw": envelope.content.decode("utf-8", "replace"),
        }
        part = folder / f"{Handler.count:03}.part"
        part.write_text(json.dumps(mail))
        part.rename(folder / f"{Handler.count:03}.json")
        return "250 OK"


async def main():
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    starttls = "no-starttls" not in options and not implicit
    auth = "no-auth" not in options

    def session():
        return SMTP(
            Handler(),
            hostname="localhost",
            tls_context=context if starttls else None,
            require_starttls=starttls,
            authenticator=authenticate if auth else None,
            auth_require_tls=starttls,
            auth_required=auth,
            auth_exclude_mechanism=["PLAIN"] if "no-plain" in options else [],
        )

    server = await asyncio.get_running_loop().create_server(
        session, "127.0.0.1", 0, ssl=context if implicit else None
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    # It ends when its parent does, which holds the other end of standard input.
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


asyncio.run(main())
