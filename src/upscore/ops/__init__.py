"""Operations that several networks use; each file holds one.

``geometry`` is the stride, offset and receptive field of a grid, ``upsample`` the bilinear transposed
convolution, ``unpool`` max pooling with indices and its three inverses (``switches`` packs the
indices), ``mirror`` reflection padding of any width, ``box_crop`` crops boxes and pastes scores back.
``receptive_field`` measures the geometry of any network with ``receptive_field_mode``;
``evaluation_mode`` restores a network's training mode. ``compiled`` finds the compiled kernels,
``out_of_memory`` recognises errors of exhausted memory.
"""
