"""What programs write about a photo into its file."""

from __future__ import annotations

XMP = """<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/"
  xmlns:mwg="http://www.metadataworkinggroup.com/schemas/regions/" photoshop:City="Lisboa">
<dc:title><rdf:Alt><rdf:li xml:lang="x-default">The  old tram</rdf:li></rdf:Alt></dc:title>
<dc:subject><rdf:Bag><rdf:li>travel</rdf:li><rdf:li>Straßenbahn</rdf:li></rdf:Bag></dc:subject>
<mwg:RegionList><rdf:Bag><rdf:li mwg:Name="Anna"/></rdf:Bag></mwg:RegionList>
</rdf:Description></rdf:RDF></x:xmpmeta>
<?xpacket end="w"?>""".encode()


def iptc(*datasets: tuple[int, bytes]) -> bytes:
    """A JPEG segment with datasets of IPTC's second record."""
    content = b"".join(b"\x1c\x02" + bytes([n]) + len(text).to_bytes(2, "big") + text for n, text in datasets)
    block = b"8BIM\x04\x04\x00\x00" + len(content).to_bytes(4, "big") + content + b"\0" * (len(content) % 2)
    return b"Photoshop 3.0\0" + block
