"""Build the native kernel: one shared library for all Pythons. Without a C++ compiler jlstm installs without it."""

import importlib.util
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError

SOURCES = Path("jlstm/kernels/native/src")


class BuildLibrary(build_ext):
    """Build a library that ctypes loads, with the headers of XLA's FFI, which jaxlib brings."""

    def get_ext_filename(self, fullname: str) -> str:
        return f"{fullname.replace('.', '/')}.so"

    def build_extension(self, ext: Extension) -> None:
        jaxlib = importlib.util.find_spec("jaxlib")
        if jaxlib is None or jaxlib.origin is None:
            raise CompileError("the native kernel needs the headers of jaxlib")
        # As system headers, so that their warnings do not hide ours.
        ext.extra_compile_args += ["-isystem", str(Path(jaxlib.origin).parent / "include")]
        super().build_extension(ext)


class TagWheel(bdist_wheel):
    """The library knows nothing of Python: one wheel a platform."""

    def get_tag(self) -> tuple[str, str, str]:
        return "py3", "none", super().get_tag()[2]


setup(
    ext_modules=[
        Extension(
            "jlstm.kernels.native.libjlstm_native",
            sources=sorted(map(str, SOURCES.glob("*.cc"))),
            depends=sorted(map(str, SOURCES.glob("*.h"))),
            language="c++",
            # A product and a sum become one instruction where the processor has it.
            extra_compile_args=["-O3", "-g0", "-std=c++17", "-fvisibility=hidden", "-ffp-contract=fast"],
            optional=True,
        )
    ],
    cmdclass={"build_ext": BuildLibrary, "bdist_wheel": TagWheel},
)
