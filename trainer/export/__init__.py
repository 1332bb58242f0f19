"""A student leaves the house: predictions of images, exports to other libraries, and their judgement."""
