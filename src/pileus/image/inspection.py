"""What the bytes of an image are, found while they arrive, and whether that is what was said.

The formats are told apart by oslo.utils' format inspector, which finds backing files, data files and
extents outside of the file (CVE-2024-32498, CVE-2024-40767, OSSA-2024-001).
"""

from msgspec import Struct, field
from oslo_utils.imageutils import format_inspector

_PLAIN = frozenset({"raw", "gpt"})  # nothing but a disk's own bytes, with or without a partition table
_NAMES = ("raw", "qcow2", "vhd", "vhdx", "vmdk", "vdi", "qed", "iso", "gpt", "luks")
AS_THEY_ARE = frozenset({"raw", "ami", "ari", "aki", "ploop"})  # disk formats without a structure of their own
BARE = frozenset({None, "bare", "ami", "ari", "aki"})  # containers whose content is the disk itself


class Findings(Struct, frozen=True, kw_only=True):
    """What was recognised in all bytes of an image."""

    formats: list[str]  # ["raw"] when nothing was recognised
    virtual_size: int  # bytes of the disk inside, as its format says
    unsafe: dict[str, str] = field(default_factory=dict)  # format → why it must not be used
    oversized: str = ""  # why the disk inside is too large, if it is


class Inspector:
    """Fed with the bytes as they come; keeps little of them."""

    def __init__(self, virtual_cap: int):
        self.virtual_cap = virtual_cap  # bytes
        self._alive = {n: k() for n in _NAMES if (k := format_inspector.get_inspector(n)) and n != "raw"}
        self._hungry = dict(self._alive)  # those that have not seen all they need
        self._size = 0

    def eat(self, data: bytes) -> None:
        """Show the next bytes to every format that may still match."""
        self._size += len(data)
        for name, inspector in list(self._hungry.items()):
            try:
                inspector.eat_chunk(data)
                matches = not inspector.complete or inspector.format_match
            except Exception:  # whatever a hostile file does to a parser, that format is then not found
                matches = False
            if not matches:
                del self._alive[name]
            if not matches or inspector.complete:
                del self._hungry[name]

    def sure_not(self, disk_format: str) -> bool:
        """Whether it is certain before the end that the bytes are not of this format."""
        return disk_format in _NAMES and disk_format not in _PLAIN and disk_format not in self._alive

    def finish(self) -> Findings:
        """What was found, after the last byte."""
        found = [name for name, inspector in self._alive.items() if _matches(inspector)]
        sizes = {name: _virtual_size(self._alive[name]) for name in found}
        structured = [sizes[name] for name in found if name not in _PLAIN]
        virtual = max(structured, default=self._size)
        too_large = f"it holds a disk of {virtual} bytes, at most {self.virtual_cap} are allowed"
        return Findings(
            formats=sorted(found) or ["raw"],
            virtual_size=virtual,
            unsafe={name: why for name in found if (why := _danger(self._alive[name]))},
            oversized=too_large if virtual > self.virtual_cap else "",
        )


def _matches(inspector: format_inspector.FileInspector) -> bool:
    inspector.finish()
    try:
        return bool(inspector.format_match)
    except Exception:  # too short or too odd to tell: not this format
        return False


def _virtual_size(inspector: format_inspector.FileInspector) -> int:
    try:
        return int(inspector.virtual_size)
    except Exception:  # a header that cannot be read: the safety check says so
        return 0


def _danger(inspector: format_inspector.FileInspector) -> str:
    """Why a recognised format must not be used, "" if it may."""
    try:
        inspector.safety_check()
    except format_inspector.SafetyCheckFailed as error:
        return "; ".join(str(why) for why in error.failures.values())
    except Exception as error:
        return str(error) or type(error).__name__
    return ""


def refusal(found: Findings, disk_format: str | None, container_format: str | None) -> str:
    """Why bytes like these must not become an image of this format; "" if they may."""
    if found.oversized:
        return f"The image was refused: {found.oversized}."
    if container_format not in BARE:
        return ""
    if disk_format in AS_THEY_ARE:
        wanted, allowed = _PLAIN, _PLAIN
    elif disk_format == "iso":
        wanted, allowed = frozenset({"iso"}), frozenset({"iso", "gpt"})  # bootable ones carry a partition table
    else:
        wanted = allowed = frozenset({disk_format or ""})
    formats = frozenset(found.formats)
    if not formats & wanted or not formats <= allowed:
        seen = " and ".join("no known format (raw)" if name == "raw" else name for name in found.formats)
        return (
            f"The image was refused: disk_format is {disk_format}, but the content is {seen}. "
            "Set disk_format to what the file is (`qemu-img info FILE` tells), or convert the file."
        )
    reasons = [found.unsafe[name] for name in found.formats if name in found.unsafe and name != "gpt"]
    if reasons:
        return f"The image was refused: {'; '.join(reasons)}."
    return ""
