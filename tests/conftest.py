"""Settings that must stand before torch is imported."""

import os

# Several test processes share the cores. Torch's threads would spin while they wait for each other
# and so take the cores from one another: tests then last five times as long.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_modifyitems(items):
    """Compiling tests first: they take longest, and at the end the other workers would wait."""
    items.sort(key=lambda item: "kernels" not in item.path.parts)


def pytest_xdist_auto_num_workers():
    """One more than there are cores: many tests wait for processes of their own."""
    return (os.cpu_count() or 1) + 1
