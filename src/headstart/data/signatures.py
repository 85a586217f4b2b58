"""Pictures in formats that are not read, by name: camera raw, medical, film, drawing; and what to do with them."""

from __future__ import annotations

from headstart.data.tiff import ADVICE_RAW

_AS_PNG = "save it as PNG or JPEG with an image editor, or convert it with ImageMagick"
_DEVELOPED = "develop it to PNG or TIFF of 8 or 16 bits with an image editor"
_SLICES = "export its picture as PNG with a DICOM viewer or dcm2img"

# Where, what is there, its name, what to do.
_SIGNATURES = (
    (0, b"FUJIFILMCCD-RAW ", "a camera's raw file (Fujifilm RAF)", ADVICE_RAW),
    (0, b"IIU\0", "a camera's raw file (Panasonic RW2)", ADVICE_RAW),
    (0, b"IIRO", "a camera's raw file (Olympus ORF)", ADVICE_RAW),
    (0, b"IIRS", "a camera's raw file (Olympus ORF)", ADVICE_RAW),
    (0, b"MMOR", "a camera's raw file (Olympus ORF)", ADVICE_RAW),
    (6, b"HEAPCCDR", "a camera's raw file (Canon CRW)", ADVICE_RAW),
    (0, b"\0MRM", "a camera's raw file (Minolta MRW)", ADVICE_RAW),
    (0, b"FOVb", "a camera's raw file (Sigma X3F)", ADVICE_RAW),
    (4, b"ftypcrx ", "a camera's raw file (Canon CR3)", ADVICE_RAW),
    (0, b"ARRI", "a camera's raw file (ARRI)", ADVICE_RAW),
    (128, b"DICM", "DICOM, a medical image", _SLICES),
    (0, b"\x76\x2f\x31\x01", "OpenEXR", _DEVELOPED),
    (0, b"#?RADIANCE", "Radiance HDR", _DEVELOPED),
    (0, b"#?RGBE", "Radiance HDR", _DEVELOPED),
    (0, b"SDPX", "DPX, a frame of film", _DEVELOPED),
    (0, b"XPDS", "DPX, a frame of film", _DEVELOPED),
    (0, b"\x80\x2a\x5f\xd7", "Cineon, a frame of film", _DEVELOPED),
    (0, b"gimp xcf ", "a GIMP file with layers (XCF)", "export it as PNG with GIMP"),
    (0, b"8BPS", "a Photoshop file (PSD)", "save it as PNG or JPEG with an image editor"),
    (0, b"8BPB", "a Photoshop file (PSB)", "save it as PNG or JPEG with an image editor"),
    (0, b"Paint Shop Pro Image File", "a Paint Shop Pro file", _AS_PNG),
    (0, b"II\xbc\x01", "JPEG XR", _AS_PNG),
    (0, b"qoif", "QOI", _AS_PNG),
    (0, b"DDS \x7c\0\0\0", "a DirectDraw texture (DDS)", _AS_PNG),
    (0, b"\xabKTX ", "a texture (KTX)", _AS_PNG),
    (0, b"\x93NUMPY", "a NumPy array (NPY)", _AS_PNG),
    (0, b"farbfeld", "farbfeld", _AS_PNG),
    (0, b"FLIF", "FLIF", _AS_PNG),
    (0, b"BPG\xfb", "BPG", _AS_PNG),
    (0, b"\x8aMNG\r\n\x1a\n", "MNG, an animation", _AS_PNG),
    (0, b"\x8bJNG\r\n\x1a\n", "JNG", _AS_PNG),
    (0, b"\x01\xda\x00", "an SGI picture", _AS_PNG),
    (0, b"\x01\xda\x01", "an SGI picture", _AS_PNG),
    (0, b"\x59\xa6\x6a\x95", "a Sun raster picture", _AS_PNG),
    (0, b"AT&TFORM", "DjVu, a document", _AS_PNG),
    (0, b"SIMPLE  =", "FITS, an astronomical image", "save it as 8- or 16-bit PNG or TIFF with its viewer"),
)


def unread(data: bytes) -> str:
    """Why a picture of a known format is not read, with what to do; empty where no such format is seen."""
    for place, signature, name, advice in _SIGNATURES:
        if data.startswith(signature, place):
            return _sentence(name, advice)
    if _is_pcx(data):
        return _sentence("PCX", _AS_PNG)
    return _sequence(data) or _jpeg_process(data)


def _sentence(name: str, advice: str) -> str:
    return f"{name}, which is not read: {advice}"


def _is_pcx(data: bytes) -> bool:
    """One byte is its signature, so that the rest of the header must make sense too (ZSoft's manual)."""
    if len(data) < 128 or data[0] != 10 or data[1] not in {0, 2, 3, 4, 5} or data[2] > 1 or data[3] not in {1, 2, 4, 8}:
        return False
    left, top, right, bottom = (int.from_bytes(data[place : place + 2], "little") for place in (4, 6, 8, 10))
    row_bytes = int.from_bytes(data[66:68], "little")
    return (
        data[64] == 0
        and data[65] in {1, 3, 4}
        and left <= right
        and top <= bottom
        and not row_bytes % 2
        and row_bytes * 8 >= (right - left + 1) * data[3]
    )


_SEQUENCES = {
    b"msf1": "an image sequence", b"hevc": "an HEIC sequence", b"hevx": "an HEIC sequence",
    b"hevm": "an HEIC sequence", b"hevs": "an HEIC sequence", b"avis": "an AVIF sequence",
}  # fmt: skip


def _sequence(data: bytes) -> str:
    """Sequences hold a film, and may hold no still image at all."""
    if data[4:8] != b"ftyp" or b"moov" not in data:
        return ""
    end = min(int.from_bytes(data[:4], "big"), 512)
    brands = [data[8:12], *(data[place : place + 4] for place in range(16, end, 4))]
    name = next((_SEQUENCES[brand] for brand in brands if brand in _SEQUENCES), "")
    return _sentence(f"{name} (a burst or an animation)", "export its still image as JPEG or HEIC") if name else ""


# Start-of-frame markers of ITU-T T.81 that libjpeg-turbo does not decode, and JPEG-LS (T.87).
_PROCESSES = {
    0xC3: "lossless JPEG", 0xC5: "hierarchical JPEG", 0xC6: "hierarchical JPEG", 0xC7: "lossless JPEG",
    0xCB: "lossless JPEG", 0xCD: "hierarchical JPEG", 0xCE: "hierarchical JPEG", 0xCF: "lossless JPEG", 0xF7: "JPEG-LS",
}  # fmt: skip
_BASELINE = {0xC0, 0xC1, 0xC2, 0xC9, 0xCA}


def _jpeg_process(data: bytes) -> str:
    """A JPEG file of a kind that cameras' raw files and medical images hold."""
    if not data.startswith(b"\xff\xd8"):
        return ""
    place = 2
    while place + 5 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker == 0xFF:
            place += 1
        elif marker in _PROCESSES:
            return _sentence(_PROCESSES[marker], _AS_PNG)
        elif marker in _BASELINE:
            depth = data[place + 4]
            return "" if depth == 8 else _sentence(f"JPEG of {depth} bits", _AS_PNG)
        elif marker == 0xDA:
            return ""
        else:
            place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    return ""
