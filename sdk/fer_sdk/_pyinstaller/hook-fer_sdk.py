"""What PyInstaller does not find: the models with their manifest, modules that are imported by
name, and the version and the library of MediaPipe."""

from importlib.util import find_spec

from PyInstaller.utils.hooks import collect_data_files, collect_dynamic_libs, copy_metadata

from fer_sdk import _HOME

datas = collect_data_files("fer_sdk")
hiddenimports = sorted({f"fer_sdk.{module}" for module in _HOME.values()})
binaries = []
if find_spec("mediapipe"):
    datas += copy_metadata("mediapipe")
    binaries += collect_dynamic_libs("mediapipe")
