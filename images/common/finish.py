"""Does what an image's packages leave undone: a font for all scripts, and ffmpeg on the PATH.

Runs in the image while it is made, before its modules are compiled: `python3 finish.py SITE-PACKAGES FONTS`. FONTS is
the directory in which programs look for fonts.
"""

import sys
from pathlib import Path

FALLBACK = """

# Added in this image. Whatever fonts are asked for, what none of them has is drawn from this one: Chinese, Japanese and
# Korean above all. A setting would be lost where styles name fonts of their own, as seaborn's do. It stands for those
# that are asked for by name for such texts, too: without one of them, each text would warn.
_FALLBACK = {font!r}
_STANDS_FOR = {names!r}
fontManager.ttflist += [
    FontEntry(fname=_FALLBACK, name=name, weight=weight) for name in _STANDS_FOR for weight in (400, 700)
]
_fonts_as_chosen = FontManager._find_fonts_by_props


def _fonts_with_fallback(self, prop, fontext="ttf", *args, **named):
    found = _fonts_as_chosen(self, prop, fontext, *args, **named)
    return [*found, FontPath(_FALLBACK, 0)] if fontext == "ttf" else found


FontManager._find_fonts_by_props = _fonts_with_fallback
"""
STANDS_FOR = [
    *("SimHei", "SimSun", "Microsoft YaHei", "PingFang SC", "Heiti SC", "STHeiti", "WenQuanYi Micro Hei"),
    *("WenQuanYi Zen Hei", "Source Han Sans SC", "Noto Sans CJK SC", "Noto Sans CJK TC", "Noto Sans SC"),
    *("Arial Unicode MS", "Microsoft JhengHei", "Noto Sans CJK KR", "Malgun Gothic", "AppleGothic", "NanumGothic"),
    *("IPAexGothic", "IPAGothic", "MS Gothic", "Yu Gothic", "Meiryo", "Hiragino Sans", "Noto Sans JP", "Noto Sans KR"),
    "Noto Sans CJK JP",
]


def show_all_scripts(site: Path, fonts: Path) -> None:
    """Put the package's font where programs look for fonts, and let matplotlib fall back to it."""
    font = site / "notojp_matplotlib" / "fonts" / "NotoSansCJKjp-Regular.otf"
    manager = site / "matplotlib" / "font_manager.py"
    if font.exists() and manager.exists():
        (fonts / font.name).symlink_to(font)
        with manager.open("a") as source:
            source.write(FALLBACK.format(font=str(font), names=STANDS_FOR))


def link_ffmpeg(site: Path, programs: Path) -> None:
    """Call the program that imageio's package holds by the name under which it is looked for."""
    for program in (site / "imageio_ffmpeg" / "binaries").glob("ffmpeg-*"):
        program.chmod(0o755)
        (programs / "ffmpeg").symlink_to(program)


if __name__ == "__main__":
    show_all_scripts(Path(sys.argv[1]), Path(sys.argv[2]))
    link_ffmpeg(Path(sys.argv[1]), Path(sys.prefix, "bin"))
