"""What pyproject.toml cannot say: a C extension, optional, one binary for Python 3.11 and newer."""

import sysconfig

from setuptools import Extension, setup

# A Python without a GIL has no stable ABI: there the binary is for that version alone.
STABLE = not sysconfig.get_config_var("Py_GIL_DISABLED")

setup(
    ext_modules=[
        Extension(
            "devnest.bcrypt._kernel",
            sources=["native/module.c", "native/kernel.c", "native/common.c"],
            depends=[
                f"native/{name}.h" for name in ("bcrypt", "common", "counts", "initial", "lanes")
            ],
            define_macros=[("Py_LIMITED_API", "0x030B0000")] if STABLE else [],
            extra_compile_args=[
                "-O2",
                "-std=c11",
                "-fomit-frame-pointer",
            ],  # the lanes need every register
            py_limited_api=STABLE,
            # Without a compiler DevNest installs, and devnest.bcrypt uses pyca/bcrypt
            optional=True,
        )
    ],
    options={"bdist_wheel": {"py_limited_api": "cp311"}} if STABLE else {},
)
