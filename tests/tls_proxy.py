"""A proxy that ends TLS before the API and tells by which certificate a client came, as nginx does."""

import asyncio
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote, urlsplit

HEADER = "x-client-cert"


class Certificate:
    """A certificate that signed itself, with its key, in two files."""

    def __init__(self, folder: Path, name: str, address: str = "", *, email: str = "", organization: str = ""):
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec

        key = ec.generate_private_key(ec.SECP256R1())
        parts = ((x509.NameOID.COMMON_NAME, name), (x509.NameOID.EMAIL_ADDRESS, email),
                 (x509.NameOID.ORGANIZATION_NAME, organization))  # fmt: skip
        subject = x509.Name([x509.NameAttribute(oid, value) for oid, value in parts if value])
        since, until = datetime(2020, 1, 1, tzinfo=UTC), datetime(2999, 1, 1, tzinfo=UTC)
        builder = x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number(), since, until)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        if address:
            from ipaddress import ip_address

            names = x509.SubjectAlternativeName([x509.IPAddress(ip_address(address))])
            builder = builder.add_extension(names, critical=False)
        made = builder.sign(key, hashes.SHA256())
        self.pem = made.public_bytes(serialization.Encoding.PEM).decode()
        self.file, self.key_file = folder / f"{name}.pem", folder / f"{name}.key"
        self.file.write_text(self.pem)
        form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        self.key_file.write_bytes(key.private_bytes(*form))


@contextmanager
def tls_proxy(upstream: str, own: Certificate, clients: list[Certificate]) -> Iterator[str]:
    """Serve https on loopback for these clients, and for those without a certificate; the URL."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(own.file, own.key_file)
    tls.verify_mode = ssl.CERT_OPTIONAL
    for client in clients:
        tls.load_verify_locations(client.file)
    there, loop = urlsplit(upstream), asyncio.new_event_loop()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
        kept = [line for line in head if line.partition(":")[0].lower() not in (HEADER, "connection")]
        length = next((int(line.partition(":")[2]) for line in kept if line.lower().startswith("content-length:")), 0)
        shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        told = [f"{HEADER}: {quote(ssl.DER_cert_to_PEM_cert(shown))}"] if shown else []
        inner, outer = await asyncio.open_connection(there.hostname, there.port)
        outer.write("\r\n".join([*kept, *told, "connection: close", "", ""]).encode("latin-1"))
        outer.write(await reader.readexactly(length))
        writer.write(await inner.read())
        writer.close()
        outer.close()

    server = loop.run_until_complete(asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls))
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    server.close()
    loop.close()
