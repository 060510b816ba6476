"""The operator on people's time scale: acceptance, arming, verification, release, restore.

Level-triggered flows over the ports; kopf only says that something changed (`operator.py`).
"""
