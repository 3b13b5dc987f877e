"""A procedural route: a world along a road, its light and weather, a camera that passes, and what it sees.

``noise`` makes textures, ``world`` the terrain and the road, ``assets`` what stands beside it, ``conditions`` light,
season, weather and sensor, ``passes`` where the camera is, ``terrain``, ``walls`` and ``render`` the radiance that it
sees, ``sensor`` the images, and ``traverse`` all of it with a cache.
"""
