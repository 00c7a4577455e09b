"""Object storage: places such as s3://bucket/prefix, read and written like paths, and copies kept on this machine."""

from han_retrieval.objects.path import ObjectPath, is_remote, local_path, refuse_unreachable, to_path

__all__ = ["ObjectPath", "is_remote", "local_path", "refuse_unreachable", "to_path"]
